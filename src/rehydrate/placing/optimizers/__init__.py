"""States of optimizers: whose they are, what each becomes, and how they get there."""
