"""The commands, a file each: ``libra-umop NAME``, and the scripts of the checkout that bear its
name. What ``--help`` and a mistake in the arguments do not need is imported after they are read.
"""
