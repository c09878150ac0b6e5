"""Requests in: the only room that knows Klein and twisted.web's server half."""
