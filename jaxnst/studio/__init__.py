"""The studio in the browser: a server that paints one picture after the other.

`live` is what a run shows while it paints; `pictures` and `history` are the files;
`settings` turns choices into the arguments of the command; `jobs` runs them in another
process; `guard` refuses what is not the page; `server` joins them.
"""
