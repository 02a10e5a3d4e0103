"""The scenario of the Elementum guide."""

from lakebase_sandbox.demo.elementum.story import ElementumStory

__all__ = ["ElementumStory"]
