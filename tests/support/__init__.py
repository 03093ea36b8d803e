"""What several test files use: tiny models and jobs, planted models, stand-ins for services, slow twins."""
