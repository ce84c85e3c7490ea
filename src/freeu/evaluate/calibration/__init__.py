"""The CFG scale that is as strong as another method, to compare both at equal strength.

guidance   as strong on the path of plain sampling, by projection
effective  as strong on the method's own path (GA-Eval), and the scale at which a method is as strong as plain sampling
"""
