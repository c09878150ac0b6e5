"""What is said of a media file, by ffprobe, in a cell."""
