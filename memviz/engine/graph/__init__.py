"""The recorded pass as a graph of calls, of which only what changes is computed."""

from ._demand import narrowed as narrowed
from ._graph import Graph as Graph
from ._graphs import Graphs as Graphs
from ._kernels import Kernels as Kernels
from ._run import changed_rows as changed_rows
from ._run import run as run
