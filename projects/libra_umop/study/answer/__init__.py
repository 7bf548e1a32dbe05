"""What the runs of a study show: tables, a page, and how sure it is."""
