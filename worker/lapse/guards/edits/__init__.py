"""What an edit of the policy file makes due, and whether an operator has to say yes first."""
