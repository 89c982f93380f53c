"""Who speaks to the coordinator: signatures and tokens (`gate`), nonces, who may join, and the members."""
