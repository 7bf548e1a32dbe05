"""The files of a study's answer: results.json, results.txt and, with plotly, study.html."""

from pathlib import Path

from ...utils.output_files import writing
from ..records import write_json
from .results import as_text, collect

__all__ = ["write_answer"]


def write_answer(folder: Path) -> tuple[str, list[Path]]:
    """Collect the study in ``folder`` and write what it shows; returns the text and the files.

    Raises:
        ConfigError: there is no study, or scipy is missing.
    """
    folder = Path(folder)
    results = collect(folder)
    text = as_text(results)
    files = [folder / "results.json", folder / "results.txt"]
    write_json(files[0], results)
    with writing(files[1]):
        files[1].write_text(text + "\n", encoding="utf-8")
    try:
        from .page import page_of
    except ModuleNotFoundError as e:
        return text + f"\n(no page: {e}; pip install jinja2 plotly)", files
    page = folder / "study.html"
    with writing(page):
        page.write_text(page_of(results, folder), encoding="utf-8")
    return text, [*files, page]
