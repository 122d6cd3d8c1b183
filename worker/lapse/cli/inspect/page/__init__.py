"""``lapse status`` as a page: what ``lapse metrics --page`` serves. It shows names, counts and classes of trouble."""
