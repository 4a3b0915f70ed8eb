"""Weights of VGG-19, from a file or a server to a `Backbone`.

In order: our own files (`format`), downloads (`download`), files of other projects
(`readers`), their conversion to ours (`convert`), and weights by name (`registry`).
"""
