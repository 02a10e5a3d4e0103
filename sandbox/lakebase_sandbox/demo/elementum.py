from dataclasses import dataclass

from lakebase_sandbox.demo.story import Chapters, Story


@dataclass(frozen=True, slots=True)
class ElementumStory(Story):
    example = "elementum"
    kinds = "lbi,lbc,pgr,ag"

    def beginning(self) -> Chapters:
        return ()

    def rest(self) -> Chapters:
        return ()
