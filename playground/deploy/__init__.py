"""The hosted Space: spaces.yaml as its one source, the check that all files agree, and the way onto the Hub.

It knows files, the catalogue and the Hub's API for Spaces. It runs no model and asks no service.

Door:
    check: check_space
    plan: Plan, PlannedModel, most_mb, plan_deployment
    profiles: write_space
    space_file: render_readme, served_words
    upload: Deployed, deploy
    waiting: Running, wait_until_running
"""
