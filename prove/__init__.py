"""The fault rig: crashes, failures and full disks, tried by the thousand (``make prove``).

Nothing of dtfc imports this. It prints its figures, and ``docs/proof.md`` keeps them.
"""
