"""One job: its stages, each under the address of all that it depends on."""
