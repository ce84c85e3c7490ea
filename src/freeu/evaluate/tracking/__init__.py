"""Results of ``freeu evaluate`` for trackers of experiments, after they were written to the output folder.

record    what is tracked: settings, values with intervals, and a sheet of images of each arm
trackers  Weights & Biases, MLflow, TensorBoard
"""
