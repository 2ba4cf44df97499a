"""The cache folder: what can be rebuilt from the data, e.g. encoded rows and trained tokenizers.

`Cache` keeps entries, each a folder with a manifest. They are verified when they are read, built by one process at a
time, and removed when the folder grows too large, the least recently used first. `code_version` is the part of an
entry's key that changes with the code that made it.
"""

from eir_seq.cache.code import code_version as code_version
from eir_seq.cache.store import Cache as Cache
from eir_seq.cache.store import Found as Found
from eir_seq.cache.store import Label as Label
