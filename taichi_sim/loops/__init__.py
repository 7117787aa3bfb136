"""Equalities that MuJoCo's solver has to meet: connect and weld, and those of joints and tendons beside them."""
