"""What operators use: the admin API, and later its pages. Knows HTTP and the drivers, no database."""
