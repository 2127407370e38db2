"""The recipes that come with edgecls, one TOML file each."""
