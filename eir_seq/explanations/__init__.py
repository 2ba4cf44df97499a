"""Attribution: what each token of a row adds to what an output predicts of it.

An input says by `FittedModality.attributable` what can be varied and what its parts are called, an output by
`FittedOutput.scored` which scores are explained, and a method (`eir_seq.registry.EXPLANATIONS`) divides a score among
the parts. None of the three knows the others.
"""
