"""Pure functions over what a run left in OUTPUT_DIR; imports no training code.

``records`` is the form on disk, ``run`` reads a run, ``sample``, ``feature``, ``objective``,
``level`` and ``data`` measure one imbalance each, ``detections`` and ``compare`` set runs side by
side, ``findings`` says it in words, and ``report`` writes the page.
"""
