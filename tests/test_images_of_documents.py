"""Every picture of docs/images is shown by a document, and made by the script that makes them."""

import re


def test_pictures_are_there_used_and_made_by_the_script(repo):
    there = {path.name for path in (repo / "docs" / "images").iterdir()}
    pages = [*repo.glob("*.md"), *repo.glob("docs/*.md")]
    documents = [path.read_text(encoding="utf-8") for path in pages]
    used = {name for text in documents for name in re.findall(r"\bimages/([\w.]+)\)", text)}
    script = (repo / "dev" / "make_images.sh").read_text(encoding="utf-8")
    made = set(re.findall(r"\w+\.(?:png|jpg)", script))
    assert there == used == made
