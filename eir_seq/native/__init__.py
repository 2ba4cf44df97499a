"""Optional kernels in C++ for a CPU, which do what compositions of torch's operations do, faster.

``python -m eir_seq native build`` compiles them, with torch's own tools, into the user's cache folder. A process uses
a build that was made of these sources for its torch and its processor, if there is one, and torch's operations
otherwise. Nothing is compiled in a run.
"""

from eir_seq.native.library import SWITCH as SWITCH
from eir_seq.native.library import available as available
from eir_seq.native.library import chosen as chosen
from eir_seq.native.library import use as use
