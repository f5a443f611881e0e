"""A Dynamics CRM 2011 organisation in one process: upstream for the demo, the tests and the benchmarks.

metadata      the small document it serves by default
schema        what metadata does not say: titles, logical names, which lookup a relationship uses
data, words   generated records
tables        rows, their order, their links
organisation, addresses, plugins, values, faultcodes   what writes do, and what they are refused for
evaluate, functions, collation                $filter by SQL Server's rules
query, cookies                                pages
render, reads, writes, messages, service      OData, without I/O
server, web, journal, faults, clock           HTTP, and what tests need to see and to break
logins, forms, rights, seen                   who asks, and what they see
"""

from proxy.sandbox.clock import Clock
from proxy.sandbox.command import run_sandbox
from proxy.sandbox.faults import Fault
from proxy.sandbox.journal import Entry
from proxy.sandbox.plugins import Plugin
from proxy.sandbox.rights import Rights
from proxy.sandbox.server import ROOT_PATH, Sandbox
from proxy.sandbox.switches import Switches

__all__ = ["ROOT_PATH", "Clock", "Entry", "Fault", "Plugin", "Rights", "Sandbox", "Switches", "run_sandbox"]
