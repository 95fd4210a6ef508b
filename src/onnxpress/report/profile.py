def render_profile(result):
    return ""
