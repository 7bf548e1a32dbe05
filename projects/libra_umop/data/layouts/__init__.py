"""Where a data set of one's own keeps its images and annotations."""
