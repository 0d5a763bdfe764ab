"""A process for each loaded model: started when needed, kept warm, stopped, replaced when it dies."""
