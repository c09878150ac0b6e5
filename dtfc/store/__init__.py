"""The disk: blocking code that knows neither Twisted nor HTTP."""
