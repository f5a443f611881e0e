"""Syncpoint: a transparent HTTP sync proxy for OData.

odata/      the protocol: pure, no I/O, no clock
upstream/   the client of the Dynamics organisation
store/      Postgres: the mirror, revisions, intents
reconcile/  the sync contract: rules, and the drivers that carry them out
sandbox/    a Dynamics 2011 organisation in one process, for demo and tests
Read `app` for the wiring and `handlers` for the way of one request.
"""

__version__ = "0.1.0"
