"""What commands on the small logs of `here` are typed with."""

ROLES = ["--episode", "stay", "--time", "hour", "--obs", "obs_*", "--action", "dose", "--reward", "reward", "--terminal", "died"]
SMALL = ["--hidden", "8", "--batch-size", "8", "--steps", "20", "--every", "10"]
