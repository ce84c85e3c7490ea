"""Sites, hooks and schedules: how FreeU gets into a model and out again."""
