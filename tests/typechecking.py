"""The checker of types and shapes that `tests/conftest.py` installs."""

from beartype import BeartypeConf, beartype

# The numeric tower: an int will do where a float is asked for.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
