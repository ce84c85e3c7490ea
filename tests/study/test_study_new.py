def test_fixture(plan, study_folder):
    study_folder.verify_media()
    assert len(plan.slots) == 6
