"""Which lever helps on one's own data, by how much, and how sure that is: runs paired by seed."""
