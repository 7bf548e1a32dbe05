"""What COCOEvaluator does not give."""
