"""The studio in the browser: a server that paints one picture after the other.

`pictures` and `history` manage files, `settings` turns choices into paintings, `jobs`
paints them in another process, `news` tells the page what has changed, and `guard`
refuses requests of other pages. `server` joins them; `watch` shows a single run.
"""
