"""Files of web servers."""

from __future__ import annotations

from typing import Any

from fsspec.implementations.http import HTTPFileSystem


class Unlisted(Exception):
    """The links of a page could not be had; the cause says why."""


class WebFileSystem(HTTPFileSystem):  # type: ignore[misc]
    """fsspec's, whose `find` and `glob` take any `OSError`, as of a server out of reach, for an empty folder."""

    async def _ls(self, url: str, detail: bool = True, **options: Any) -> Any:
        try:
            return await super()._ls(url, detail=detail, **options)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise Unlisted from error
