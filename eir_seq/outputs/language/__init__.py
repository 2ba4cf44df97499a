"""What language-model outputs share: scores of tokens, heads, rules."""
