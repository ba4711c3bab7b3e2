"""Programs expanded before time begins: trees, tables by site, streams of dispatched instructions and what they cost."""
