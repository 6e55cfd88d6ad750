"""Looking at what was learnt: grids of images, reports, quantised students."""
