"""Explanations of a model's answers: heat maps by Grad-CAM, occlusion and SHAP, and their page."""
