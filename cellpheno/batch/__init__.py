"""Units of work over workers, and the ledger of what is done."""
