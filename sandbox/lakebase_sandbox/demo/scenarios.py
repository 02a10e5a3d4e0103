"""What the demo can show: one story for each directory of manifests in examples/."""

from collections.abc import Mapping

from lakebase_sandbox.demo.elementum import ElementumStory
from lakebase_sandbox.demo.quickstart import QuickstartStory
from lakebase_sandbox.demo.story import Story

SCENARIOS: Mapping[str, type[Story]] = {story.example: story for story in (QuickstartStory, ElementumStory)}
"""By name; the first is the default."""
