"""What people write down for this program: environment variables, spaces.yaml and other YAML, read once, checked, and
told with the place where something is wrong. It does not know what a model, a Space or a price is for.

Door:
    endpoints: host, load_remotes, remote_artifact, remote_spec
    hosts: Hosts, SETTING, refusal
    logins: HubLogin, check_login
    schema: Amount, Block, Count, Text, Url, mistake
    settings: Limits, Settings, load_settings, own_settings
    space_schema: DeployBlock, ProfileBlock, SpaceBlock
    starting: app_mistakes, check_start, variable_mistake
    validation: checked, closest, problems, read_yaml
"""
