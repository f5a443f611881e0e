"""OData v2 as Dynamics CRM 2011 speaks it: pure functions and frozen values.

No I/O, no clock, no database, no settings; nothing here imports another package of ours, and what cannot be
read raises ODataError and nothing else.

    errors            ODataError: what parsers raise
    edm               the entity data model; csdl reads it from a metadata document
    primitives        the primitive types in JSON, Atom and URI literals (with primitive, numerics, times)
    uri               resource paths and key predicates
    query_options     the query: options read, raw text kept; the check's query made and undone
    expressions       the tree of $filter and $orderby; filter parses and prints it (with filter_tokens)
    headers           end-to-end fields, the method tunnel, Cache-Control
    projection        $select and $expand as a tree
    media             which format an Accept header will get
    operation         a request's bytes -> an Operation; the way in for whoever serves requests
    reading           a GET of anything the standard can address, for whoever answers it by itself
    verbose_json      entities, collections, links and errors as verbose JSON
    atom              the same as Atom
"""
