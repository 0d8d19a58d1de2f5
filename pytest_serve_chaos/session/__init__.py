"""What lives as long as a pytest run with ``--serve-chaos``: the run, its results, and what pytest reports of them."""
