"""What a file is when it is no checkpoint: `recognising` asks, and the files beside it know, a row for each kind."""
