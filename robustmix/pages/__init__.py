"""What people look at: the HTML page and the figures, made from reports."""
