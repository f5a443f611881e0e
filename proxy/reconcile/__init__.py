"""The sync contract: rules, and the drivers that carry them out.

Rules (pure): policy, stamp, freshness (reads and storing), outcomes (writes), assembly (bodies).
Drivers: reader, writer, feeder, metadata, and in the background settler, backfill, poller, sweeper, on top of
mirror, which lets fetched states in.
The world outside is `ports`; what is worth knowing is said as `observations`. No HTTP server, no SQL.
Read `freshness` first, then `reader`.
"""
