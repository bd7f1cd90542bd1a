"""Who is there: SWIM with Lifeguard's corrections, and the door through which nodes first meet."""
