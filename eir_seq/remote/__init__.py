"""Files by URL: ``s3://``, ``gs://``, ``hf://``, ``https://`` and ``http://``, through fsspec.

Nothing is fetched unless a config or a command names the URL. Credentials are those of the environment, as the tools of
each store have them (``AWS_*``, ``~/.aws``, ``GOOGLE_APPLICATION_CREDENTIALS``, ``HF_TOKEN``); they are in no message.
What goes wrong is a `UserError` of one line that names the URL.
"""

from eir_seq.remote.files import local_file as local_file
from eir_seq.remote.files import matching as matching
from eir_seq.remote.files import open_text as open_text
from eir_seq.remote.files import version as version
from eir_seq.remote.files import with_scheme as with_scheme
from eir_seq.remote.folders import RemoteFolder as RemoteFolder
from eir_seq.remote.folders import fetched_bundle as fetched_bundle
from eir_seq.remote.folders import mirrored as mirrored
from eir_seq.remote.names import by_url as by_url
from eir_seq.remote.names import name_copy as name_copy
from eir_seq.remote.names import named_by_url as named_by_url
from eir_seq.remote.names import original as original
from eir_seq.remote.outlines import outlined as outlined
from eir_seq.remote.urls import arrow_filesystem as arrow_filesystem
from eir_seq.remote.urls import is_url as is_url
from eir_seq.remote.urls import reading as reading
from eir_seq.remote.urls import shown as shown
from eir_seq.remote.urls import url_fault as url_fault
