"""Episodes: manipulations over time with their intermediate representations, and the questions made from them."""
