"""What a model looks at: heat maps by Grad-CAM, occlusion and SHAP, and the page that holds them."""
